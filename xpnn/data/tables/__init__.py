"""Tables: what is predicted, how columns become numbers, and which rows are held back.

tabular.py  reads and splits a table, by `TableOptions`
schema.py   how the columns are encoded; fitted on the training rows, saved with the model
column.py   how one column is encoded
target.py   classes or numbers
leaks.py    warnings of columns that tell the target
"""
