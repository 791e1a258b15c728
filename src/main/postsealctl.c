/* postsealctl: administration from the command line; see role/ctl.h. */
#include "role/ctl.h"

int main(int argc, char **argv)
{
    return ctl_main(argc, argv);
}
