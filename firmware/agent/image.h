/* What a slot begins with: the image of a model that was linked for that slot's address. Little-endian, as
 * the cores are. */
#ifndef INTAGLIO_IMAGE_H
#define INTAGLIO_IMAGE_H

#include <stdint.h>

#define IMAGE_MAGIC 0x4C444D49u /* "IMDL" */
#define IMAGE_VERSION 1u

struct intaglio_model; /* of intaglio_abi.h, or of any generated header */

struct image_header {
    uint32_t magic;
    uint16_t version;  /* of this structure */
    uint16_t abi;      /* INTAGLIO_ABI_VERSION */
    const void *start; /* the address that the image is linked for: that of this header */
    const void *end;   /* the first address behind it */
    const struct intaglio_model *model;
};

#endif
