"""Other runtimes on the same weights. Each module translates a model's two graphs, as written, into
its runtime's own operators, and decodes as its users could at best; what it cannot say, it refuses.
"""
