"""What other programs compute, written from their public sources in NumPy alone, and held against ours.

Each check stands for one entry of a "Peers" list in a transform's docstring: `@peer(op, "PEER `NAME`")`.
"""
