# Workers: intake, training, audits, packaging. For a GPU, run it with the NVIDIA container toolkit:
# torch's Linux wheels bring their own CUDA libraries.
FROM python:3.11-slim

ENV PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN useradd --system --uid 10001 --create-home kaima \
    && install -d -o kaima -g kaima -m 0700 /var/lib/kaima
WORKDIR /srv/kaima

COPY pyproject.toml constraints.txt LICENSE README.md ./
COPY privacy privacy
COPY training training
COPY workers workers
COPY service service
RUN pip install -c constraints.txt '.[worker]'

USER kaima
ENV KAIMA_STATE=/var/lib/kaima
# Which queue is the first argument: cpu or gpu. Each job is a subprocess; the thread only watches.
ENTRYPOINT ["celery", "--app", "workers.app", "worker", "--pool", "threads", "--concurrency", "1", \
    "--without-gossip", "--without-mingle", "--queues"]
CMD ["cpu"]
