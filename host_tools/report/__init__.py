"""`thimble report`: what other commands printed with --json goes in, one HTML page and PNG pictures come out.

``read_runs`` checks the documents, ``models`` sorts them by model and board, each ``*_figure`` module draws
one kind of figure with its tables, ``page`` puts them together.
"""
