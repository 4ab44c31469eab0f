"""The call's memory in a database: what is known of every call, kept beside its journal and made of it.

The journal is the truth; the database can always be made again from it. Owns tables, writing and reading; refuses to know
who shows what it keeps.
"""
