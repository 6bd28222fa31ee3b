"""The proof by breaking: processes, disks and databases are taken away, and the books held against what was promised.

`python -m chaos EXPERIMENT` runs one experiment on real processes, and writes its own section of docs/reliability.md.
The product knows nothing of it: what an experiment changes in a process, it changes from outside (`inject/`).
"""
