"""What people see of a run or a study: console lines, tables, accuracy_row, pages, TensorBoard."""
