"""What happened here, in the words of others: FHIR, DICOM, a paper for the chart."""
