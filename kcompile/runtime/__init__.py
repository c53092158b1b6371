"""Objects become something one can call.

    cache.py        compiled objects on disk, found by content
    link.py         objects -> addresses in this process
    arena.py        aligned memory, scratch blocks
    threads.py      the process-wide thread pool: size, start, fork
    executable.py   bind arrays, call, return
    interpreted.py  the same surface over the NumPy interpreter
    profile.py      time, flops, bytes per kernel
"""
