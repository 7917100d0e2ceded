/* Four models with outputs that a test can compute for itself; all of them destroy their inputs. */
#ifndef MOCK_MODELS_H
#define MOCK_MODELS_H

#include "intaglio_abi.h"

enum { MOCK_MODELS = 4 };

extern const struct intaglio_model *const mock_models[MOCK_MODELS];

#endif
