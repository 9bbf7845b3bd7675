def cases(zoo):
    pass
