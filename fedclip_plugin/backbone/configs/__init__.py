"""What the configuration of a backbone folder says: CLIP, SigLIP and OpenCLIP."""
