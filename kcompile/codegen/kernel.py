"""Kernel: one compiled kernel as its emitter returns it, and the layout of its argument slots.

A kernel is one LLVM module. For each phase it defines one exported function

    void FUNCTION(ptr args, i64 begin, i64 end, i64 worker)

that runs the tasks [begin, end) of that phase. Phases run one after the other: all tasks of a phase
are finished before the next one starts. Within a phase tasks are independent, and how they are split
among workers never changes a bit of the result.

`args` points to slots of 8 bytes, in this order:

    1. one pointer per buffer of the form that is not local, in the order of `form.buffers`
    2. if `workspace_bytes_per_worker` is not 0: a pointer to workers * that many bytes
    3. if `shared_workspace_bytes` is not 0: a pointer to that many bytes, kept from phase to phase
    4. if `kept_workspace_bytes` is not 0: a pointer to that many bytes, kept from call to call
    5. one i64 per name in `symbols`

Workspaces are 64-byte aligned; what they hold before the first phase does not matter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kcompile.ir.dim import DimLike


@dataclass(frozen=True)
class Phase:
    """One parallel loop: call `function` on [0, tasks), in any split.

    cost_per_task: rough scalar operations plus bytes moved, for deciding how many threads pay off.
    prepares: for a phase that only turns buffers into the kept workspace, or into the shared one if there is
        none: positions of these buffers' pointers. As long as they do not change, it need not run again.
    """

    function: str
    tasks: DimLike
    cost_per_task: DimLike
    prepares: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Kernel:
    """LLVM IR of one kernel and what its caller must provide.

    ir: the module's text; for a kernel that came out of the disk cache, what emits it again when asked.
    """

    name: str
    ir: str | Callable[[], str]
    symbols: tuple[str, ...]
    phases: tuple[Phase, ...]
    workspace_bytes_per_worker: DimLike = 0
    shared_workspace_bytes: DimLike = 0
    kept_workspace_bytes: int = 0  # filled by the first phase, which `prepares`; the others only read it

    @property
    def ir_text(self) -> str:
        """The LLVM IR of the kernel's module, not optimised."""
        return self.ir if isinstance(self.ir, str) else self.ir()

    @property
    def tasks(self) -> DimLike:
        """Tasks of the first phase."""
        return self.phases[0].tasks

    @property
    def cost_per_task(self) -> DimLike:
        """Cost of one task of the first phase."""
        return self.phases[0].cost_per_task

    @property
    def has_workspace(self) -> bool:
        return self.workspace_bytes_per_worker != 0
