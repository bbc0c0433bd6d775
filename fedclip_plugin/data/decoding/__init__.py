"""From image files to what is kept of them until they are encoded, in threads or in processes of their own; no torch.

Needs nothing but PIL and numpy, so that a process that decodes starts at once.
"""
