"""Training: from arguments to programs to epochs.

structure.py  what users write per output, flattened
compiled.py   losses and metrics of `compile`, resolved; compiling.py  what `compile` set up
step.py       the train, test and predict steps, traced once
programs.py   programs by signature, arenas
data/         arrays and iterables as sources
checks.py     labels before they reach native code
loop.py       epochs of batches
lean.py       single batches with little overhead
custom.py     steps that a model writes itself
profiling.py  model.profile              memory.py     model.memory_plan
trainer.py    Trainer: compile, fit, evaluate, predict; legacy.py  what Keras 3 left out
"""
