/* A TCG plugin that counts the instructions executed between marks.
 *
 *     -plugin count.so,marks=FILE,out=FILE
 *
 * `marks` holds lines `ADDRESS KIND LAYER` (hexadecimal, then decimal): kind 0 starts counting, 1 stops
 * it, 2 ends a layer. A mark acts just before the instruction at its address executes and costs the
 * program nothing. `out` receives, per counted call, `S`, then for each layer `B PC INSNS RUNS TAKEN`
 * lines (straight-line blocks; TAKEN: how often control did not fall through at the block's end) closed
 * by `L LAYER`, and `E` after what follows the last layer.
 *
 * The prototypes below are the part of QEMU's plugin interface that is used; Debian ships no header.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_info_t;
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };
typedef void (*translated_cb)(qemu_plugin_id_t id, struct qemu_plugin_tb *tb);
typedef void (*executed_cb)(unsigned int cpu, void *data);

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, translated_cb callback);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn, executed_cb callback,
                                            enum qemu_plugin_cb_flags flags, void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);

#define EXPORT __attribute__((visibility("default")))
EXPORT extern int qemu_plugin_version;
int qemu_plugin_version = QEMU_PLUGIN_API;
EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info_t *info, int argc, char **argv);

enum mark_kind { MARK_START, MARK_STOP, MARK_LAYER, MARK_NONE };

struct mark {
    uint64_t pc;
    enum mark_kind kind;
    int layer;
};

/* A straight run of instructions. A mark starts a new one, so each run belongs to one layer whole. */
struct block {
    uint64_t pc, end;
    uint64_t instructions, runs, taken;
    const struct mark *mark;
    struct block *next;
};

static struct mark *marks;
static size_t mark_count;
static struct block *blocks;
static struct block *last;
static bool counting;
static FILE *out;

static void flush(void) {
    for (struct block *b = blocks; b != NULL; b = b->next) {
        if (b->runs != 0) {
            fprintf(out, "B %" PRIx64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", b->pc, b->instructions,
                    b->runs, b->taken);
            b->runs = 0;
            b->taken = 0;
        }
    }
}

static void act(const struct mark *mark) {
    switch (mark->kind) {
    case MARK_START:
        if (!counting) {
            fputs("S\n", out);
            counting = true;
            last = NULL;
        }
        break;
    case MARK_STOP:
        if (counting) {
            flush();
            fputs("E\n", out);
            fflush(out);
            counting = false;
        }
        break;
    case MARK_LAYER:
        if (counting) {
            flush();
            fprintf(out, "L %d\n", mark->layer);
        }
        break;
    case MARK_NONE:
        break;
    }
}

static void executed(unsigned int cpu, void *data) {
    struct block *block = data;
    (void)cpu;
    if (counting && last != NULL && last->end != block->pc) {
        last->taken++;
    }
    for (const struct mark *m = block->mark; m != NULL && m < marks + mark_count && m->pc == block->pc; m++) {
        act(m);
    }
    if (counting) {
        block->runs++;
        last = block;
    }
}

static const struct mark *mark_at(uint64_t pc) {
    for (size_t i = 0; i < mark_count; i++) {
        if (marks[i].pc == pc) {
            return &marks[i];
        }
    }
    return NULL;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb) {
    const size_t n = qemu_plugin_tb_n_insns(tb);
    struct block *block = NULL;
    (void)id;
    for (size_t i = 0; i < n; i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        const uint64_t pc = qemu_plugin_insn_vaddr(insn);
        const struct mark *mark = mark_at(pc);
        if (block == NULL || mark != NULL) {
            block = calloc(1, sizeof *block);
            if (block == NULL) {
                abort();
            }
            block->pc = pc;
            block->mark = mark;
            block->next = blocks;
            blocks = block;
            qemu_plugin_register_vcpu_insn_exec_cb(insn, executed, QEMU_PLUGIN_CB_NO_REGS, block);
        }
        block->instructions++;
        block->end = pc + qemu_plugin_insn_size(insn);
    }
}

static bool read_marks(const char *path) {
    FILE *file = fopen(path, "r");
    uint64_t pc;
    int kind, layer;
    if (file == NULL) {
        return false;
    }
    while (fscanf(file, "%" SCNx64 " %d %d", &pc, &kind, &layer) == 3) {
        struct mark *grown = realloc(marks, (mark_count + 1) * sizeof *marks);
        if (grown == NULL) {
            break;
        }
        marks = grown;
        marks[mark_count++] = (struct mark){pc, (enum mark_kind)kind, layer};
    }
    fclose(file);
    return mark_count != 0;
}

int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info_t *info, int argc, char **argv) {
    bool ready = false;
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "marks=", 6) == 0) {
            ready = read_marks(argv[i] + 6);
        } else if (strncmp(argv[i], "out=", 4) == 0) {
            out = fopen(argv[i] + 4, "w");
        }
    }
    if (!ready || out == NULL) {
        fputs("count plugin: needs marks=FILE and out=FILE\n", stderr);
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
