"""The C source of an exported library's public functions.

It binds weights and scratch memory to the native program and checks its arguments. Scratch memory
is kept from call to call: a call takes the model's block by an atomic exchange and puts it back, so
a second thread calling at the same time allocates one of its own.

Variables that a run changes (states of recurrent layers, seeds) are copied out of the read-only weights by `create`:
each model has its own, beside what it keeps.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from kcompile.codegen.program import CONSTANT, INPUT, KEPT, OUTPUT, RUNS, VARIABLE, WORKERS, Program
from kcompile.export.header import ERRORS, identifier, parameters, predict_signature, sizes
from kcompile.ir import dim
from kcompile.target import Target

# Where CPUID reports the instructions LLVM may use: feature -> (leaf, sub-leaf, register, bit); registers are
# eax 0, ebx 1, ecx 2, edx 3. Source: Intel SDM volume 2A, CPUID; AMD APM volume 3, appendix E.
CPUID_BITS = {
    "sse4.2": (1, 0, 2, 20), "movbe": (1, 0, 2, 22), "popcnt": (1, 0, 2, 23), "fma": (1, 0, 2, 12),
    "avx": (1, 0, 2, 28), "f16c": (1, 0, 2, 29), "lzcnt": (0x80000001, 0, 2, 5),
    "bmi": (7, 0, 1, 3), "avx2": (7, 0, 1, 5), "bmi2": (7, 0, 1, 8), "avx512f": (7, 0, 1, 16),
    "avx512dq": (7, 0, 1, 17), "avx512ifma": (7, 0, 1, 21), "avx512cd": (7, 0, 1, 28),
    "avx512bw": (7, 0, 1, 30), "avx512vl": (7, 0, 1, 31), "avx512vbmi": (7, 0, 2, 1),
    "avx512vbmi2": (7, 0, 2, 6), "gfni": (7, 0, 2, 8), "avx512vnni": (7, 0, 2, 11),
    "avx512bitalg": (7, 0, 2, 12), "avx512vpopcntdq": (7, 0, 2, 14), "avx512vp2intersect": (7, 0, 3, 8),
    "avx512fp16": (7, 0, 3, 23), "avxvnni": (7, 1, 0, 4), "avx512bf16": (7, 1, 0, 5),
}  # fmt: skip
# the x86-64 psABI's levels, for targets that name a level and no features
LEVELS = {
    "x86-64-v2": ("sse4.2", "popcnt"),
    "x86-64-v3": ("sse4.2", "popcnt", "movbe", "fma", "avx", "f16c", "lzcnt", "bmi", "avx2", "bmi2"),
}
LEVELS["x86-64-v4"] = (*LEVELS["x86-64-v3"], "avx512f", "avx512dq", "avx512cd", "avx512bw", "avx512vl")


def needed_features(target: Target) -> list[str]:
    """The features of CPUID_BITS that code for `target` may use."""
    if target.arch != "x86_64":
        return []
    named = {f[1:] for f in target.features.split(",") if f.startswith("+")}
    return [f for f in CPUID_BITS if f in named or f in LEVELS.get(target.cpu, ())]


def cpu_check(target: Target) -> str:
    """C source of `runs_here`: 1 if this CPU, and the system's saving of its registers, has what is needed."""
    features = needed_features(target)
    if not features:
        return "static int runs_here(void) { return 1; }"
    leaves = sorted({CPUID_BITS[f][:2] for f in features})
    masks = {(leaf, r): 0 for leaf in leaves for r in range(4)}
    for f in features:
        *leaf, register, bit = CPUID_BITS[f]
        masks[tuple(leaf), register] |= 1 << bit
    tests = []
    for leaf in leaves:
        wanted = " || ".join(
            f"(r[{r}] & 0x{masks[leaf, r]:x}u) != 0x{masks[leaf, r]:x}u" for r in range(4) if masks[leaf, r]
        )
        tests.append(f"    if (!cpuid(0x{leaf[0]:x}u, {leaf[1]}, r) || {wanted}) return 0;")
    saved = 0xE6 if "avx512f" in features else 0x6 if "avx" in features else 0
    if saved:
        tests.append("    if (!cpuid(1, 0, r) || !(r[2] & (1u << 27))) return 0;")
        tests.append('    __asm__ volatile("xgetbv" : "=a"(r[0]), "=d"(r[3]) : "c"(0));')
        tests.append(f"    if ((r[0] & 0x{saved:x}u) != 0x{saved:x}u) return 0;")
    lines = "\n".join(tests)
    return f"""\
static int cpuid(uint32_t leaf, uint32_t sub, uint32_t r[4]) {{
    uint32_t highest;
    __asm__ volatile("cpuid" : "=a"(highest), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(leaf & 0x80000000u), "c"(0));
    if (highest < leaf) return 0;
    __asm__ volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(leaf), "c"(sub));
    return 1;
}}

static int runs_here(void) {{
    uint32_t r[4];
{lines}
    return 1;
}}"""


def description(program: Program) -> dict:
    """Inputs, outputs and sizes as plain data."""

    def one(argument):
        shape = [str(size) for size in argument.type.shape]
        return {"name": argument.name, "dtype": argument.type.dtype.keras, "shape": shape}

    return {
        "inputs": [one(a) for a in program.arguments if a.role == INPUT],
        "outputs": [one(a) for a in program.arguments if a.role == OUTPUT],
        "sizes": sizes(program),
    }


def interface_source(program: Program, prefix: str, weight_offsets: dict[str, int], target: Target) -> str:
    """Return the C source. `weight_offsets`: where each variable and constant starts in the weights."""
    names = {a.name: name for _, name, a in parameters(program)}
    fill, fixed, first_values, kept_bytes = [], [], [], 0
    for n, argument in enumerate(program.arguments):
        if argument.role == KEPT or n in program.changed:
            fixed.append(f"    args[{n}] = model->kept + {kept_bytes};")
            if argument.role != KEPT:
                source = f"{prefix}_weights + {weight_offsets[argument.name]}"
                first_values.append(f"    memcpy(model->kept + {kept_bytes}, {source}, {argument.type.nbytes});")
            kept_bytes += -(-dim.evaluate(argument.type.nbytes, {}) // 64) * 64
        elif argument.role in (VARIABLE, CONSTANT):
            fixed.append(f"    args[{n}] = {prefix}_weights + {weight_offsets[argument.name]};")
        elif argument.role == RUNS:
            fixed.append(f"    static int64_t runs; args[{n}] = &runs;")
        else:
            fill.append(f"    args[{n}] = (const void *){names[argument.name]};")
    given = sizes(program)
    size_lines = [f"    sizes[{program.symbols.index(s)}] = {identifier(s)};" for s in given]
    size_lines.append(f"    sizes[{program.symbols.index(WORKERS)}] = model->workers;")
    null_checks = " || ".join(["!model", *(f"!{name}" for _, name, _ in parameters(program))])
    size_checks = " || ".join(f"{identifier(s)} < 0 || {identifier(s)} > ((int64_t)1 << 40)" for s in given) or "0"
    empty_checks = " || ".join(f"{identifier(s)} == 0" for s in given) or "0"
    texts = ", ".join(json.dumps(text) for _, text in ERRORS)
    stem = program.name
    code = {name: n for n, (name, _) in enumerate(ERRORS)}
    return f"""\
#include <stddef.h>
#include <stdint.h>

void *malloc(size_t);
void free(void *);
void *memcpy(void *, const void *, size_t);
extern int64_t {stem}_arena_bytes(const int64_t *sizes);
extern int32_t {stem}_run(const void **args, const int64_t *sizes, void *arena);
extern int32_t kc_pool_start(int64_t threads);
extern const unsigned char {prefix}_weights[];

#if defined(_WIN32)
#define PUBLIC __declspec(dllexport)
#else
#define PUBLIC __attribute__((visibility("default")))
#endif

typedef struct {prefix}_model {{ int64_t workers; struct scratch *idle; unsigned char *kept; }} {prefix}_model;
struct scratch {{ int64_t bytes; void *arena; }};

{cpu_check(target)}

static void drop(struct scratch *s) {{ free(s); }}

static struct scratch *make(int64_t bytes) {{
    struct scratch *s = malloc((size_t)bytes + sizeof *s + 64);
    if (!s) return NULL;
    s->bytes = bytes;
    s->arena = (void *)(((uintptr_t)(s + 1) + 63) & ~(uintptr_t)63);
    return s;
}}

static void fixed_args(const {prefix}_model *model, const void **args) {{
    (void)model;
    (void)args;
{chr(10).join(fixed)}
}}

{_prepare_source(program, prefix, kept_bytes, first_values, code["MEMORY"])}

PUBLIC void {prefix}_destroy({prefix}_model *model);

PUBLIC int32_t {prefix}_create({prefix}_model **model, int32_t num_threads) {{
    if (!model) return {code["NULL"]};
    *model = NULL;
    if (!runs_here()) return {code["CPU"]};
    {prefix}_model *made = malloc(sizeof *made);
    if (!made) return {code["MEMORY"]};
    int64_t workers = num_threads > 1 ? num_threads : 1;
    if (workers > 1) kc_pool_start(workers);
    made->workers = workers;
    made->idle = NULL;
    made->kept = NULL;
    int32_t code = prepare(made);
    if (code) {{ {prefix}_destroy(made); return code; }}
    *model = made;
    return 0;
}}

PUBLIC void {prefix}_destroy({prefix}_model *model) {{
    if (!model) return;
    if (model->idle) drop(model->idle);
    if (model->kept) free(((void **)model->kept)[-1]);
    free(model);
}}

PUBLIC {predict_signature(program, prefix)} {{
    if ({null_checks}) return {code["NULL"]};
    if ({size_checks}) return {code["SIZE"]};
    if ({empty_checks}) return 0;
    int64_t sizes[{len(program.symbols)}];
{chr(10).join(size_lines)}
    const void *args[{max(len(program.arguments), 1)}];
    fixed_args(model, args);
{chr(10).join(fill)}
    int64_t needed = {stem}_arena_bytes(sizes);
    struct scratch *s = __atomic_exchange_n(&model->idle, NULL, __ATOMIC_ACQUIRE);
    if (s && s->bytes < needed) {{ drop(s); s = NULL; }}
    if (!s && !(s = make(needed))) return {code["MEMORY"]};
    int32_t code = {stem}_run(args, sizes, s->arena);
    s = __atomic_exchange_n(&model->idle, s, __ATOMIC_RELEASE);
    if (s) drop(s);
    return code;
}}

PUBLIC const char *{prefix}_error(int32_t code) {{
    static const char *const texts[] = {{{texts}}};
    return code >= 0 && code < {len(ERRORS)} ? texts[code] : "unknown code";
}}

PUBLIC const char *{prefix}_describe(void) {{
    return {json.dumps(json.dumps(description(program)))};
}}
"""


def _prepare_source(program: Program, prefix: str, kept_bytes: int, first_values: Sequence[str], no_memory: int) -> str:
    """C source of `prepare`: allocates what the model keeps, gives variables their first values, computes the rest.

    The block's own address lies in front of what is kept. What is kept depends on no size: any will do.
    """
    head = f"static int32_t prepare({prefix}_model *model) {{"
    if not kept_bytes:
        return f"{head} (void)model; return 0; }}"
    allocated = f"""\
{head}
    unsigned char *block = malloc({kept_bytes} + 128);
    if (!block) return {no_memory};
    model->kept = (unsigned char *)(((uintptr_t)block + 127) & ~(uintptr_t)63);
    ((void **)model->kept)[-1] = block;
{chr(10).join(first_values)}"""
    if not program.prepare:
        return f"{allocated}\n    return 0;\n}}"
    sizes_1 = ", ".join("model->workers" if s == WORKERS else "1" for s in program.symbols)
    return f"""\
extern int32_t {program.name}_prepare(const void **args, const int64_t *sizes, void *arena);

{allocated}
    const int64_t sizes[{len(program.symbols)}] = {{{sizes_1}}};
    const void *args[{len(program.arguments)}] = {{0}};
    struct scratch *s = make({program.name}_arena_bytes(sizes));
    if (!s) return {no_memory};
    fixed_args(model, args);
    int32_t code = {program.name}_prepare(args, sizes, s->arena);
    drop(s);
    return code;
}}"""
