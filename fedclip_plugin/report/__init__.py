"""What people see of a run or a study: console lines, tables, figures, pages, TensorBoard."""
