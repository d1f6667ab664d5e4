-- Which host carries which network.
CREATE VIEW network_vds_view AS
SELECT vds_static.vds_id, vds_static.vds_name, vds_interface.network_name
FROM vds_interface
    INNER JOIN vds_static ON vds_static.vds_id = vds_interface.vds_id;
