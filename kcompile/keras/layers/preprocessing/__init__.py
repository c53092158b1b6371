"""Layers that turn raw data into numbers a model can learn from.

encoding.py  class indices as vectors            numeric.py  scales, statistics, bins
hashing.py   words to a fixed number of classes (hashes.py: the hashes)
lookup.py    words and integers to indices (vocabulary.py: what they learn)    text.py  texts
images.py    resize, crop, flip, brightness, contrast     warps.py  rotation, translation, zoom
host.py      what runs in Python, before the compiled program
"""
