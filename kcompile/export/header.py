"""The C header of an exported library."""

from __future__ import annotations

from kcompile.codegen.program import INPUT, OUTPUT, WORKERS, Argument, Program

C_TYPES = {
    "f32": "float", "f64": "double", "bf16": "uint16_t", "f16": "uint16_t", "bool": "uint8_t",
    "i8": "int8_t", "i16": "int16_t", "i32": "int32_t", "i64": "int64_t",
    "u8": "uint8_t", "u16": "uint16_t", "u32": "uint32_t", "u64": "uint64_t",
}  # fmt: skip

ERRORS = (
    ("OK", "done"),
    ("NULL", "an argument is NULL"),
    ("SIZE", "a size is negative or too large"),
    ("MEMORY", "out of memory"),
    ("CPU", "this CPU lacks instructions the library was compiled for"),
)


def identifier(name: str) -> str:
    """A name that C accepts."""
    text = "".join(c if c.isalnum() else "_" for c in name)
    return text if text and not text[0].isdigit() else f"_{text}"


def sizes(program: Program) -> list[str]:
    """The named sizes a caller gives, in order."""
    return [s for s in program.symbols if s != WORKERS]


def parameters(program: Program) -> list[tuple[str, str, Argument]]:
    """C type, name and argument of each input and output, in call order."""
    named = []
    for role, const in ((INPUT, "const "), (OUTPUT, "")):
        for argument in (a for a in program.arguments if a.role == role):
            c_type = f"{const}{C_TYPES[argument.type.dtype.name]} *"
            named.append((c_type, identifier(f"{role}_{argument.name}"), argument))
    return named


def predict_signature(program: Program, prefix: str) -> str:
    """The declaration of the one function that computes."""
    given = [f"{prefix}_model *model", *(f"int64_t {identifier(s)}" for s in sizes(program))]
    given += [f"{c_type}{name}" for c_type, name, _ in parameters(program)]
    return f"int32_t {prefix}_predict({', '.join(given)})"


def header_text(program: Program, prefix: str) -> str:
    """The whole header."""
    guard = f"{prefix.upper()}_H"
    shapes = "\n".join(
        f" *   {name}: {a.type.dtype.keras} [{', '.join(map(str, a.type.shape))}], row-major"
        for _, name, a in parameters(program)
    )
    codes = "\n".join(f"#define {prefix.upper()}_{name} {n} /* {text} */" for n, (name, text) in enumerate(ERRORS))
    return f"""\
#ifndef {guard}
#define {guard}

#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

/* Made by kcompile. Weights are inside the library; it needs libc and threads only. */

{codes}

typedef struct {prefix}_model {prefix}_model;

/* Make a model that uses up to num_threads threads (0: one). Models are independent of each other. */
int32_t {prefix}_create({prefix}_model **model, int32_t num_threads);
void {prefix}_destroy({prefix}_model *model);

/* Compute. Any sizes; {_calls(program)}.
 *
{shapes}
 */
{predict_signature(program, prefix)};

/* The meaning of a code that is not 0. */
const char *{prefix}_error(int32_t code);

/* Inputs, outputs and sizes as JSON. */
const char *{prefix}_describe(void);

#ifdef __cplusplus
}}
#endif

#endif
"""


def _calls(program: Program) -> str:
    """What the header says of a model's calls."""
    if program.changed:
        return "a model keeps its state from call to call, so one call at a time; a new model starts anew"
    return "one model may be called from several threads at once"
