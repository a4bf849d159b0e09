module exitbus-loops

go 1.19
