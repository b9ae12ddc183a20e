"""The report as one HTML page: no network, no library; usable by keyboard and screen reader, in light, dark and print.

document     the page: its sections in order, style and script
trial_table  every trial, sorted and filtered by the script
class_tables how the best trial answers each class, and examples where a person asked for texts
charts       the figures as SVG, from the numbers of :mod:`xautolm_hpc.report.figure_numbers`
scales       axes
elements     nested elements in which every text is escaped
"""
