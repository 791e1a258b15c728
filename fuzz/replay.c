/*
 * Stand-in for libFuzzer's main: runs every file of the given files and directories through the
 * target once, in order of name. A crash names its file on the last line of stderr.
 */
#include "fuzz.h"

#include "base/attr.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>

#define INPUT_MAX (1U << 20)

static unsigned run_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    uint8_t *data = f ? malloc(INPUT_MAX) : NULL;

    if (!data) {
        (void)fprintf(stderr, "%s: cannot be read\n", path);
        exit(1);
    }
    size_t n = fread(data, 1, INPUT_MAX, f);
    (void)fprintf(stderr, "%s (%zu bytes)\n", path, n);
    /* Exactly n bytes on the heap, so that a sanitizer sees the first byte beyond. */
    uint8_t *exact = realloc(data, n ? n : 1);
    (void)LLVMFuzzerTestOneInput(exact ? exact : data, n);
    free(exact ? exact : data);
    (void)fclose(f);
    return 1;
}

static unsigned run_dir(const char *path)
{
    struct dirent **names = NULL;
    int n = scandir(path, &names, NULL, alphasort);
    unsigned runs = 0;

    for (int i = 0; i < n; i++) {
        char file[4096];

        (void)snprintf(file, sizeof(file), "%s/%s", path, names[i]->d_name);
        if (names[i]->d_name[0] != '.')
            runs += run_file(file);
        free(names[i]);
    }
    free(names);
    return runs;
}

int main(int argc, char **argv)
{
    unsigned runs = 0;

    for (int i = 1; i < argc; i++) {
        struct stat st;

        if (stat(argv[i], &st) != 0) {
            (void)fprintf(stderr, "%s: not there\n", argv[i]);
            return 1;
        }
        runs += S_ISDIR(st.st_mode) ? run_dir(argv[i]) : run_file(argv[i]);
    }
    (void)fprintf(stderr, "%u inputs\n", runs);
    return runs ? 0 : 1; /* an empty corpus proves nothing */
}
