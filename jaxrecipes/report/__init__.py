"""What a run leaves for people: TensorBoard events, progress, plots and one HTML page.

Import the module that is needed (`jaxrecipes.report.writer`, `.progress`, `.plots`, `.page`);
nothing is imported here, as matplotlib alone takes as long as a first training step.
"""
