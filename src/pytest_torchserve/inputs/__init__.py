"""What a model is served with: weights, samples and golden answers, made or found, cached by content.

torch is needed for some of it and is imported only in `torch_side`, in a program of its own that runs beside
pytest's process (`golden.Preparations`), so that collecting tests stays quick and the machine's second core has work
while the server starts.
"""
