#!/usr/bin/env python3
"""A GGUF file in another type of weights, by llama.cpp: requantise.py IN OUT Q8_0|Q4_0. For figures of speed alone."""

import sys

import llama_cpp as L

params = L.llama_model_quantize_default_params()
params.ftype = {"Q4_0": 2, "Q8_0": 7}[sys.argv[3]]
params.allow_requantize = True
sys.exit(L.llama_model_quantize(sys.argv[1].encode(), sys.argv[2].encode(), params))
