"""A run directory as plain data for people to look at: list, curves, completions, comparison.

Reads only, and only run directories. Unlike `report/`, which a job calls to make its result and which may fail, this
package also reads runs that are half-written, damaged or deleted meanwhile: it says so once and shows the rest.
`rft runs`, `rft show`, `rft compare` and `rft report` draw what it returns.
"""
