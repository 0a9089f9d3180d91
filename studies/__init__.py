"""Studies: from a study file through the whole pipeline to tables, figures, report and advice."""
