"""Python runs this as a process starts that has this folder on its PYTHONPATH: there, `hooks` change the product."""

from chaos.inject import hooks

hooks.install()
