"""Layers that turn raw data into numbers a model can learn from.

encoding.py  class indices as vectors            numeric.py  scales, statistics, bins
hashing.py   words to a fixed number of classes (hashes.py: the hashes)
lookup.py    words and integers to indices (vocabulary.py: what they learn)    text.py  texts
image_layer.py  what layers on images share     images.py  resize, crop, flip     warps.py  rotation, zoom, shear, ...
colours.py   brightness, hue, ...     histograms.py  equalization     mixing.py  MixUp, CutMix, erasing, boxes
policies.py  RandAugment, AugMix, Pipeline                            spectra.py  spectrograms of signals
host.py      what runs in Python, before the compiled program; calls.py  that inside `call`
"""
