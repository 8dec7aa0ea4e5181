"""From a teacher, a corpus and questions to a served student, by the StepER method."""
