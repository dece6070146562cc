"""Inputs of a model: weights, samples and golden answers, made or found, cached by content.

Only `torch_side` imports torch, in a process of its own that runs beside pytest's process (`golden.Preparations`), so
that collecting tests stays quick and the machine's second core has work while the server starts.
"""
