# Web application, migrations and reconciliation core. No torch in here.
FROM python:3.11-slim

ENV PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN useradd --system --uid 10001 --create-home kaima \
    && install -d -o kaima -g kaima -m 0700 /var/lib/kaima
WORKDIR /srv/kaima

COPY pyproject.toml constraints.txt LICENSE README.md ./
COPY privacy privacy
COPY service service
RUN pip install -c constraints.txt '.[service]'
COPY deploy/gunicorn.conf.py deploy/gunicorn.conf.py

USER kaima
ENV KAIMA_STATE=/var/lib/kaima
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s CMD \
    ["python", "-c", "import httpx; httpx.get('http://127.0.0.1:8000/healthz').raise_for_status()"]
CMD ["gunicorn", "--config", "deploy/gunicorn.conf.py", "service.app:create_app()"]
