"""The mpirun command of a job, the Open MPI that runs it, and waiting for its end."""
