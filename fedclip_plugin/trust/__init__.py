"""What a silo's machine lets out: its policy, the log of what left, its keys for secure sums.

Nothing here imports torch or fedml.
"""
