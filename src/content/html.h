/*
 * HTML -> text, as a reader would see it: inline tags vanish, block tags become line breaks, cells
 * tabs, entities characters. What a reader does not see but a recipient can get at (comments,
 * scripts, styles, attribute values) goes into a second text, one item a line.
 */
#ifndef CONTENT_HTML_H
#define CONTENT_HTML_H

#include "base/buf.h"

/* html is UTF-8. Both outputs are at most about as long as the input. */
void html_to_text(struct sv html, struct buf *out_text, struct buf *out_extra);
/* charset of a <meta> within the first KiB, or "". */
struct sv html_meta_charset(struct sv html);

#endif
