"""The training of `tiny-unclip`, stage by stage."""
