//! An apiserver on its own etcd, to be looked at by hand: prints a kubeconfig's path and stays until interrupted.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    daemon::logs::start(2, false);
    let server = testkit::ApiServer::start().await?;
    println!("export KUBECONFIG={}", server.kubeconfig.display());
    tokio::signal::ctrl_c().await?;
    Ok(())
}
