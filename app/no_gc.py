"""Imported before all else by a process that imports much: looking for garbage, of which imports leave little, takes a
fifth of their time. Whoever imports this calls gc.enable() when the imports are done."""

import gc

gc.disable()
