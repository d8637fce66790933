"""Capacity as one controller process sees it: traces pulled, curves kept, tables and plans made."""
