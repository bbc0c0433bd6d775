"""What a silo's machine lets out: its policy, and the log of what left. Nothing here imports torch or fedml."""
