"""The server's API, one module a subject. Each gives its entries of the table (`endpoints()`); `table.py` puts them together.

It owns what a request may ask and what it is answered; it refuses to know how agents are read, calls run and memory is kept.
"""
