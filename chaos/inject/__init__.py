"""What is changed in the processes under test, from outside: `sitecustomize.py` here is on their PYTHONPATH alone."""
