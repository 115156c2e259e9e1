FOLDER, REPORT = "compression", "report.json"  # in the data folder
