"""Activation edits: a change of what goes into a frozen layer or comes out of it."""
