"""Mutoscope: one to four reference images and a prompt in, a video out."""

__version__ = "0.1.0"
