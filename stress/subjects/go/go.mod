module exitbus-stress-go

go 1.19
