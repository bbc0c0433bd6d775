"""Running a study: its plan, its one mpirun job, and the results on disk."""
