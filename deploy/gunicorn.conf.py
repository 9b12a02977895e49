"""gunicorn settings of the web container: threads, because an upload or a live page holds one."""

bind = "0.0.0.0:8000"
worker_class = "gthread"
workers = 2
threads = 32
timeout = 60
graceful_timeout = 20
keepalive = 5
# Heartbeat files on a memory disk: on a slow disk a busy worker would look dead.
worker_tmp_dir = "/dev/shm"
control_socket_disable = True
# Access lines are written by the application, without query strings.
accesslog = None
errorlog = "-"
