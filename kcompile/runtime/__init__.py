"""Objects become something one can call.

cache.py        compiled objects on disk, found by content
kernels.py      forms -> kernels, from the cache where they are there
compilers.py    modules -> object files, by this process and helpers
garbage.py      no search for garbage cycles meanwhile
programs.py     whole programs in the cache, found by their graphs
link.py         objects -> addresses in this process
arena.py        aligned memory, scratch blocks; results.py memory of large results, used again
threads.py      the process-wide thread pool: size, start, fork
executable.py   bind arrays, call, return; prepared.py the same for known shapes, called by Python directly
kept.py         what a program computes from its variables once
permutation.py  random orders of rows
compare.py      KCOMPILE_COMPARE: each kernel beside its form
interpreted.py  the same surface over the NumPy interpreter
machine.py      what this machine can do: multiply-adds, bandwidth per cache level
profile.py      time, flops, bytes, share of the machine's limit per kernel
profile_text.py, profile_page.py   a profile as a table, as an HTML page
"""
