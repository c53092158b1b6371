"""The C source of an exported library's public functions.

It binds weights and scratch memory to the native program and checks its arguments. Scratch memory
is kept from call to call: a call takes the model's block by an atomic exchange and puts it back, so
a second thread calling at the same time allocates one of its own.
"""

from __future__ import annotations

import json

from kcompile.codegen.program import CONSTANT, INPUT, OUTPUT, VARIABLE, WORKERS, Program
from kcompile.export.header import ERRORS, identifier, parameters, predict_signature, sizes
from kcompile.target import Target

# what __builtin_cpu_supports calls the instructions a target's code may use
X86_FEATURES = {16: (), 32: ("avx2", "fma"), 64: ("avx512f", "avx512dq", "avx512bw", "avx512vl")}


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
    fill = []
    for n, argument in enumerate(program.arguments):
        if argument.role in (VARIABLE, CONSTANT):
            fill.append(f"    args[{n}] = {prefix}_weights + {weight_offsets[argument.name]};")
        else:
            fill.append(f"    args[{n}] = (const void *){names[argument.name]};")
    given = sizes(program)
    size_lines = [f"    sizes[{program.symbols.index(s)}] = {identifier(s)};" for s in given]
    size_lines.append(f"    sizes[{program.symbols.index(WORKERS)}] = model->workers;")
    null_checks = " || ".join(["!model", *(f"!{name}" for _, name, _ in parameters(program))])
    size_checks = " || ".join(f"{identifier(s)} < 0 || {identifier(s)} > ((int64_t)1 << 40)" for s in given) or "0"
    empty_checks = " || ".join(f"{identifier(s)} == 0" for s in given) or "0"
    features = X86_FEATURES.get(target.vector_bytes, ()) if target.arch == "x86_64" else ()
    cpu_check = " && ".join(f'__builtin_cpu_supports("{f}")' for f in features) or "1"
    texts = ", ".join(json.dumps(text) for _, text in ERRORS)
    stem = program.name
    code = {name: n for n, (name, _) in enumerate(ERRORS)}
    return f"""\
#include <stddef.h>
#include <stdint.h>

void *malloc(size_t);
void free(void *);
extern int64_t {stem}_arena_bytes(const int64_t *sizes);
extern int32_t {stem}_run(const void **args, const int64_t *sizes, void *arena);
extern int32_t kc_pool_start(int64_t threads);
extern const unsigned char {prefix}_weights[];

#if defined(_WIN32)
#define PUBLIC __declspec(dllexport)
#else
#define PUBLIC __attribute__((visibility("default")))
#endif

typedef struct {prefix}_model {{ int64_t workers; struct scratch *idle; }} {prefix}_model;
struct scratch {{ int64_t bytes; void *arena; }};

static void drop(struct scratch *s) {{ free(s); }}

static struct scratch *make(int64_t bytes) {{
    struct scratch *s = malloc((size_t)bytes + sizeof *s + 64);
    if (!s) return NULL;
    s->bytes = bytes;
    s->arena = (void *)(((uintptr_t)(s + 1) + 63) & ~(uintptr_t)63);
    return s;
}}

PUBLIC int32_t {prefix}_create({prefix}_model **model, int32_t num_threads) {{
    if (!model) return {code["NULL"]};
    *model = NULL;
    if (!({cpu_check})) return {code["CPU"]};
    {prefix}_model *made = malloc(sizeof *made);
    if (!made) return {code["MEMORY"]};
    int64_t workers = num_threads > 1 ? num_threads : 1;
    if (workers > 1) kc_pool_start(workers);
    made->workers = workers;
    made->idle = NULL;
    *model = made;
    return 0;
}}

PUBLIC void {prefix}_destroy({prefix}_model *model) {{
    if (!model) return;
    if (model->idle) drop(model->idle);
    free(model);
}}

PUBLIC {predict_signature(program, prefix)} {{
    if ({null_checks}) return {code["NULL"]};
    if ({size_checks}) return {code["SIZE"]};
    if ({empty_checks}) return 0;
    int64_t sizes[{len(program.symbols)}];
{chr(10).join(size_lines)}
    const void *args[{max(len(program.arguments), 1)}];
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
