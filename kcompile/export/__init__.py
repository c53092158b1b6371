"""A compiled program as a shared library that needs nothing else to run.

library.py    objects + weights + interface -> shared library and header
header.py     the C header
interface.py  the C source of the library's few public functions
linker.py     find a linker; say plainly when there is none
load.py       run an exported library from Python
"""
