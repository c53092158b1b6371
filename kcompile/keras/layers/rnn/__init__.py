"""Recurrent layers: a cell describes one step, RNN runs it over a sequence.

rnn.py    RNN, and the base of layers that make their own cell       cells.py   what cells share, stacks of cells
simple_rnn.py  lstm.py  gru.py  conv_lstm.py  bidirectional.py       the layers

A cell is a layer with `state_size` and `call(inputs, states) -> (output, new states)`. Cells are written in
keras.ops; the compiler takes the projection of the inputs out of the loop (passes/hoist.py).
"""

from kcompile.keras.layers.rnn import bidirectional, cells, conv_lstm, gru, lstm, rnn, simple_rnn

__all__ = ["bidirectional", "cells", "conv_lstm", "gru", "lstm", "rnn", "simple_rnn"]
